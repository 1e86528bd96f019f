"""Image tokenizers, whose codes some methods predict."""

"""Images and what is made of them: datasets of every origin, views, masks, the embedded scenes."""

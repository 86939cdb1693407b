"""A slide and its map at full resolution in the browser, segmented while it is looked at."""

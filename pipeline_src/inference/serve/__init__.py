"""A page to search an index by sound or picture: a small server for one's own machine."""

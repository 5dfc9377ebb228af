"""The torture of `perdure torture`: real processes and servers that are killed, frozen, cut off and filled up."""

"""How handlers run: on the event loop, in threads, or in processes of their own that can be killed."""

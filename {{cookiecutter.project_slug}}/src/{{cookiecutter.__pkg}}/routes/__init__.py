"""The routes: each module here that has a blueprint called `bp` is registered."""

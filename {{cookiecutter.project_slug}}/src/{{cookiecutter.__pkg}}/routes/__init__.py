"""The routes: a module or package here that has a blueprint called `bp` is registered."""

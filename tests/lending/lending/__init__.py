"""A library that lends books: an application beside this project, with its tests."""

"""An application: a package, a database object, a broker and actors of its own."""

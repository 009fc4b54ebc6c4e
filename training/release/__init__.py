"""How the model that comes with the package is made, measured, described and compared."""

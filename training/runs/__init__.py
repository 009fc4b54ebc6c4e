"""What runs leave: directories, evaluations, bundles, and the tables and plots made of them."""

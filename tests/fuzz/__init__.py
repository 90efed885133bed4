"""What nobody wrote by hand."""

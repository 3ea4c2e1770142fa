"""What methods add to the page of a run; imported once a page is written."""

"""Where labelled data comes from; one file each."""

"""Files and what is done with any of them: below everything else, knows no data."""

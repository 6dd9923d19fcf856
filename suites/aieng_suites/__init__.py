"""aieng_suites: what is measured, against what. One folder per suite, one file per benchmark."""

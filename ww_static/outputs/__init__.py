"""Ways out of a result: tables to read, files, reports of CI services, progress. They read rows and nothing else."""

"""Ways out of a result: pages to read, files, reports of CI services, progress. They read rows, and what an audit made of them."""

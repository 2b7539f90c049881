"""What every benchmark needs: a directory, result files, tables, plots, the kernel's figures."""

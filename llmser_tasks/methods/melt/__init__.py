"""MELT (Kim et al., SIGIR 2023, arXiv 2304.08382): tail users and items learn from head ones and each other."""

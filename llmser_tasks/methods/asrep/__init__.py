"""ASReP (Liu, Fan, Wang, Yu, SIGIR 2021, arXiv 2105.00522): a model that looks back extends short histories."""

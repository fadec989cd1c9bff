"`python -m minitrain` is the command `minitrain`; so `torchrun --nproc-per-node 2 -m minitrain` starts it in two processes."
from minitrain.lab.reproduce import main

if __name__ == '__main__': raise SystemExit(main())

"""Many runs in one process: trained as one program where that is faster, and each with a life and a
directory of its own."""

raise RuntimeError("the checkout's own executor must not be imported")

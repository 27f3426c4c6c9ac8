raise RuntimeError("the checkout's own server must not be imported")

raise SystemExit("the stand-in has no server of its own")

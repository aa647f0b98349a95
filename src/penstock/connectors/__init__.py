"""Where events come from: files. Each reader says where it stands, so that it can go on from there."""

"""What people take away: clouds, meshes, textures, cameras in other formats, a viewer."""

import utils as utils  # before PyTorch: it says how OpenMP waits

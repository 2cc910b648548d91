"""Where shards are made: in this process, in one process per device, or on a Ray cluster.

base        what every engine offers, and how long a worker is waited for
local       in this process
processes   one process per device
ray         on a Ray cluster
registry    an engine by its name
"""

from typing import Literal

EngineName = Literal["local", "processes", "ray"]

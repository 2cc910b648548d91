"""Where shards are made: in this process, in one process per device, or on a Ray cluster.

base        what every engine offers, and how long a worker is waited for
failures    whose fault an error is, and where the shard is tried next
processes   one process per device
local       in this process
ray         on a Ray cluster
registry    an engine by its name
"""

from typing import Literal

EngineName = Literal["local", "processes", "ray"]

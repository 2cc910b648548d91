"""Where runs are kept: folders on a disk or in an object store, behind one interface.

Nothing outside this room asks which it is. A folder itself tells what differs: whether other processes see it (`is_shared`), and
whether comparing a file reads all of it (`reads_to_compare`).

disk      this machine's disks: errors that say what to do, locks between runs, scratch folders
folder    the interface of a folder
local     a folder on a disk
retries   calls to a store, tried again while that may help
remote    a folder in an object store
places    the folder at a path or URL
"""

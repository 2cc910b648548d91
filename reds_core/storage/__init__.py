"""Where runs are kept: folders on a disk or in an object store, behind one interface.

local       this machine's disks: errors that say what to do, locks between runs, scratch folders
retries     calls to a store, tried again while that may help
folders     a folder on a disk or behind a URL
"""

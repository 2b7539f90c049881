"""Commands that ask and change a cluster as a whole: its status, members, release, incidents."""

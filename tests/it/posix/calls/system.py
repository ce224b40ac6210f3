import os

from harness import case, made, opened


@case
def statvfs_tells_of_the_file_system():
    v = os.statvfs(".")
    return v.f_namemax, v.f_bsize, v.f_frsize, v.f_bavail > 0, v.f_files > 0, os.stat("file").st_blksize


@case
def sizes_and_blocks_agree():
    made("blocks", b"x" * 1000000)
    fd = opened("blocks")
    os.fsync(fd)
    status = os.stat("blocks")
    return status.st_size, status.st_blocks * 512 >= status.st_size

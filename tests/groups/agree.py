def tests(build):
    return []

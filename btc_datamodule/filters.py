"""Filters that HDF5 datasets are packed with: of HDF5 itself, and of the package hdf5plugin."""


def is_filter_available(code: int) -> bool:
    """Whether datasets that are packed with a filter can be read, once plugins are loaded."""
    import h5py

    return bool(h5py.h5z.filter_avail(code) or (load_plugins() and h5py.h5z.filter_avail(code)))


def load_plugins() -> bool:
    """Make the filters of the package hdf5plugin known; whether it is installed."""
    try:
        import hdf5plugin
    except ImportError:
        return False
    return bool(hdf5plugin)

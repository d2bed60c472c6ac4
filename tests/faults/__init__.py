"""Every promise of the README's table of faults, tried: one file per row, one function `tried` that counts cases."""

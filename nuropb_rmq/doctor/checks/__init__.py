"""The checks, one module for each area. A check looks at the facts only, and changes nothing."""

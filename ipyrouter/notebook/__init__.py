"""The front end: magics, rendering, panel. Only this folder knows IPython."""

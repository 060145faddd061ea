"""The front ends that are not JupyterLab or Notebook 7, opened with the same notebook."""

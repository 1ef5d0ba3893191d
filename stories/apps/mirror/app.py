"""Not an app of Streamlit's: `python` beside it runs in its place. A gate wants to be given a script."""

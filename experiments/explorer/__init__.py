"""Parts of `experiments.explore`: the page that decodes in the browser."""

"""Publishing: the model card, one atomic upload to the Hub, and its verification by download.

Import from the modules: SAELens takes seconds to load, and a card's text needs none of it.
"""

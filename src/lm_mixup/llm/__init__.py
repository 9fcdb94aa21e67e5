"""Language models: adapters of the LLM port, and parsing of what models answer."""

"""What charts say of their values: `values.schema.json` and `docs/charts.md`, made from the commented values.yaml."""

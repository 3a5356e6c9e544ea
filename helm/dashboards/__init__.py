"""The Grafana dashboards as code. `generate.py` writes them into the chart."""

"""The words of the server: named arrays, features, a loaded model, a request for predictions. Imports nothing above."""

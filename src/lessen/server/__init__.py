"""The service: HTTP, Socket.IO and the dashboard over a folder of runs. Its process never imports torch."""

"""What `modeldeploy serve` starts: the model server's own command, now or by systemd."""

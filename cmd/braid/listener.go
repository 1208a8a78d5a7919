package main

import (
	"errors"
	"net"
	"strconv"
	"strings"
)

// listener is one --listener NAME=HOST:PORT[,advertise=HOST:PORT][,zone=Z].
type listener struct {
	Name      string `json:"name"`
	Bind      string `json:"bind"`
	Advertise string `json:"advertise,omitempty"`
	Zone      string `json:"zone,omitempty"`
}

// parseListener reads the flag's form.
func parseListener(s string) (listener, error) {
	name, rest, ok := strings.Cut(s, "=")
	if !ok || name == "" {
		return listener{}, usagef("--listener wants NAME=HOST:PORT[,advertise=HOST:PORT][,zone=Z], not %q", s)
	}
	parts := strings.Split(rest, ",")
	l := listener{Name: name, Bind: parts[0]}
	for _, p := range parts[1:] {
		k, v, _ := strings.Cut(p, "=")
		switch k {
		case "advertise":
			l.Advertise = v
		case "zone":
			l.Zone = v
		default:
			return listener{}, usagef("--listener %s: unknown option %q: advertise or zone", name, k)
		}
	}
	if err := checkHostPort("--listener "+name, l.Bind); err != nil {
		return listener{}, err
	}
	if l.Advertise != "" {
		if err := checkHostPort("--listener "+name+" advertise", l.Advertise); err != nil {
			return listener{}, err
		}
	}
	return l, nil
}

// checkHostPort demands HOST:PORT with a port of 0 to 65535.
func checkHostPort(what, s string) error {
	_, port, err := net.SplitHostPort(s)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
		if err == nil {
			return nil
		}
		if errors.Is(err, strconv.ErrRange) {
			return usagef("%s: port %s of %q is out of range: 0 to 65535", what, port, s)
		}
	}
	return usagef("%s wants HOST:PORT, not %q", what, s)
}

// shift adds n to the port of HOST:PORT; port 0 stays 0.
func shift(hostPort string, n int) (string, error) {
	host, port, err := net.SplitHostPort(hostPort)
	if err != nil {
		return "", err
	}
	p, err := strconv.Atoi(port)
	if err != nil {
		return "", err
	}
	if p != 0 {
		p += n
	}
	if p > 65535 {
		return "", usagef("port %d is past 65535: %d gateways need that many consecutive ports from %s", p, n+1, port)
	}
	return net.JoinHostPort(host, strconv.Itoa(p)), nil
}

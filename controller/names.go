package controller

import (
	"strings"

	"github.com/braidstream/braid/catalog"
)

// maxTopicName is Kafka's limit.
const maxTopicName = 249

// physicalPrefix begins the names of all physical topics of a fleet.
func physicalPrefix(fleet string) string { return "braid." + fleet + "." }

// physicalName makes a name that was never used and never will be: 80 random
// bits end it. The rest is for people who look at the cluster.
func physicalName(fleet, tenant, topic string) string {
	unique := "." + catalog.RandomName(16)
	name := physicalPrefix(fleet) + legal(tenant) + "." + legal(topic)
	if len(name) > maxTopicName-len(unique) {
		name = name[:maxTopicName-len(unique)]
	}
	return name + unique
}

// legal replaces what Kafka takes in no topic name.
func legal(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '_', r == '-':
			return r
		}
		return '-'
	}, s)
}

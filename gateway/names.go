package gateway

// CheckTopicName tells why a name is no legal topic name, as Kafka tells it; nil if it is one.
func CheckTopicName(name string) error { return checkTopicName(name) }

from dwalign.encoders.graph import GraphEncoder

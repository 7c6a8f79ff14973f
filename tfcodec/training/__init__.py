"""Training of the network. Needs torch, numpy, OpenCV and safetensors only, so that it runs on a bare GPU machine."""

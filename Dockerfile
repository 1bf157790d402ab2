# The image for people with Docker. The program is built outside, static, so that
# nothing else needs to be in the image:
#   make image && docker build -t registry.example.com/deputy:TAG .
FROM scratch
COPY target/image/deputy /deputy
USER 65532:65532
ENTRYPOINT ["/deputy"]
